// SPDX-License-Identifier: GPL-2.0-only
/*
 * The portable core inside a kernel, without Xen: loading fails unless a ring
 * in kernel memory carries messages, also across its end.  For tests only.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "backends/argo/core/link.h"
#include "backends/argo/core/ring.h"

#define RING_SIZE	192
#define MESSAGES	100

/* One message through the ring; its length changes so that payloads wrap. */
static int carry(struct argo_ring_writer *writer,
		 struct argo_ring_reader *reader, unsigned int number)
{
	const struct argo_addr src = { .port = 7, .domid = 3 };
	const u32 len = number % 100 + 1;
	struct argo_ring_message message;
	struct argo_iov iov;
	u8 sent[100], got[100];

	memset(sent, number, sizeof(sent));
	iov = (struct argo_iov){ .base = (unsigned long)sent, .len = len };
	if (argo_ring_writer_insert(writer, src, number, &iov, 1, len))
		return -EIO;
	if (argo_ring_peek(reader, &message) != 1)
		return -EIO;
	if (message.len != len || message.type != number ||
	    message.src.port != src.port || message.src.domid != src.domid)
		return -EIO;
	memcpy(got, message.seg[0].data, message.seg[0].len);
	memcpy(got + message.seg[0].len, message.seg[1].data,
	       message.seg[1].len);
	if (memcmp(sent, got, len))
		return -EIO;
	argo_ring_release(reader, &message);
	return argo_ring_peek(reader, &message) ? -EIO : 0;
}

static int check_ring(void)
{
	struct argo_ring_writer writer;
	struct argo_ring_reader reader;
	unsigned int i;
	void *memory;
	int ret;

	memory = kzalloc(ARGO_RING_HEADER_SIZE + RING_SIZE, GFP_KERNEL);
	if (!memory)
		return -ENOMEM;
	argo_ring_writer_init(&writer, memory, RING_SIZE);
	ret = argo_ring_reader_init(&reader, memory, RING_SIZE);
	for (i = 0; !ret && i < MESSAGES; i++)
		ret = carry(&writer, &reader, i);
	kfree(memory);
	return ret;
}

static int no_ring(void *ctx, u16 partner, struct argo_ring_reader *reader)
{
	return -ESRCH;
}

/* No partner and no hypercall: only that the link's code is there and runs. */
static int check_link(void)
{
	static const struct argo_link_ops ops = { .ring_open = no_ring };
	struct argo_link *link;
	struct argo_peer *peer;
	int ret = -ENOMEM;

	link = kzalloc(sizeof(*link), GFP_KERNEL);
	peer = kzalloc(sizeof(*peer), GFP_KERNEL);
	if (link && peer) {
		argo_link_init(link, &ops, NULL, 1, peer, 1);
		ret = argo_link_add_peer(link, 2, 1000);
		if (!ret && argo_link_add_peer(link, 3, 1000) != -ENOSPC)
			ret = -EIO;
		if (!ret && argo_link_due_ms(link) != 1000 + ARGO_LINK_PROBE_MS)
			ret = -EIO;
	}
	kfree(peer);
	kfree(link);
	return ret;
}

static int __init core_check_init(void)
{
	int ret = check_ring();

	if (!ret)
		ret = check_link();
	pr_info("argo_core_check: %d\n", ret);
	return ret;
}

static void __exit core_check_exit(void)
{
}

module_init(core_check_init);
module_exit(core_check_exit);
MODULE_DESCRIPTION("Argosy's portable core, checked inside a kernel");
MODULE_LICENSE("GPL");
