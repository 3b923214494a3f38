# SPDX-License-Identifier: GPL-2.0-only
# What every Kbuild file of this folder and below it includes, as: include $(src)/common.mk

argo-linux := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

# Files name each other from the root of the repository, as everywhere in the tree.
ccflags-y += -I$(argo-linux)/../../..

# Where define_trace.h looks for the headers of our tracepoints.
ccflags-y += -I$(src)

# -DARGO_HAVE_...=0 or 1: see probe.sh.
ccflags-y += $(shell sh $(argo-linux)/probe.sh $(srctree)/include)

# Argosy's version, here alone: MODULE_VERSION(ARGOSY_VERSION), and that of the DKMS package.
argosy-version := 0.1.0
ccflags-y += -DARGOSY_VERSION='"$(argosy-version)"'
