/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints of argo_core: /sys/kernel/tracing/events/argo. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM argo

#if !defined(ARGOSY_BACKENDS_ARGO_LINUX_ARGO_TRACE_H_) || defined(TRACE_HEADER_MULTI_READ)
#define ARGOSY_BACKENDS_ARGO_LINUX_ARGO_TRACE_H_

#include <linux/tracepoint.h>

TRACE_EVENT(argo_register_ring,
	TP_PROTO(u32 port, u16 partner, u32 len, int ret),
	TP_ARGS(port, partner, len, ret),
	TP_STRUCT__entry(
		__field(u32, port)
		__field(u16, partner)
		__field(u32, len)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->port = port;
		__entry->partner = partner;
		__entry->len = len;
		__entry->ret = ret;
	),
	TP_printk("port=%#x partner=%u len=%u ret=%d", __entry->port, __entry->partner,
		  __entry->len, __entry->ret)
);

TRACE_EVENT(argo_unregister_ring,
	TP_PROTO(u32 port, u16 partner, int ret),
	TP_ARGS(port, partner, ret),
	TP_STRUCT__entry(
		__field(u32, port)
		__field(u16, partner)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->port = port;
		__entry->partner = partner;
		__entry->ret = ret;
	),
	TP_printk("port=%#x partner=%u ret=%d", __entry->port, __entry->partner, __entry->ret)
);

TRACE_EVENT(argo_sendv,
	TP_PROTO(u16 dst, u32 port, u32 type, int ret),
	TP_ARGS(dst, port, type, ret),
	TP_STRUCT__entry(
		__field(u16, dst)
		__field(u32, port)
		__field(u32, type)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->dst = dst;
		__entry->port = port;
		__entry->type = type;
		__entry->ret = ret;
	),
	TP_printk("dst=%u port=%#x type=%#x ret=%d", __entry->dst, __entry->port,
		  __entry->type, __entry->ret)
);

TRACE_EVENT(argo_notify,
	TP_PROTO(u32 entries, int ret),
	TP_ARGS(entries, ret),
	TP_STRUCT__entry(
		__field(u32, entries)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->entries = entries;
		__entry->ret = ret;
	),
	TP_printk("entries=%u ret=%d", __entry->entries, __entry->ret)
);

TRACE_EVENT(argo_virq,
	TP_PROTO(u32 ready),
	TP_ARGS(ready),
	TP_STRUCT__entry(
		__field(u32, ready)
	),
	TP_fast_assign(
		__entry->ready = ready;
	),
	TP_printk("ready=%u", __entry->ready)
);

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_ARGO_TRACE_H_ */

/* Read again by the tracing headers, outside of any include guard. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE argo_trace
#include <trace/define_trace.h>
