# SPDX-License-Identifier: Apache-2.0
# With wildcard=1 a domain becomes the partner of whoever knocks: alpha is told of beta, beta is told of nobody.
. /data/lib.sh

guest_create alpha beta
meet dom0 alpha
check "alpha takes beta as a partner" guest alpha "echo 0,$(guest_domid beta) > /sys/module/argo_core/parameters/partners"
meet alpha beta
same "the rings are the wildcard page and 65 pages for each partner" "pages=1 pages=65 pages=65" \
  "$(guest alpha "sed -n 's/.*argo_ring_open.* \(pages=[0-9]*\).*/\1/p' /proc/vmallocinfo" | xargs)"
check "beta took alpha in" guest beta "grep -q '^partner $(guest_domid alpha) stranger' /sys/kernel/debug/argo/core"
check "a file goes from the stranger" transfer alpha beta 5000
check "and to it" transfer beta alpha 5000
same "what beta was told has not changed" 0 "$(guest beta 'cat /sys/module/argo_core/parameters/partners')"

guest_destroy alpha
check "a dead stranger is forgotten" guest beta "while grep -q stranger /sys/kernel/debug/argo/core; do usleep 50000; done"
