// SPDX-License-Identifier: GPL-2.0-only
#include "backends/argo/core/link.c"
