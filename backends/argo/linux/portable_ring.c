// SPDX-License-Identifier: GPL-2.0-only
#include "backends/argo/core/ring.c"
