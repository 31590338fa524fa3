#define _GNU_SOURCE /* fopencookie */
#include <stdio.h>
#include <rte_config.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_cycles.h>
#include <rte_pause.h>
#include <rte_thash.h>
#include "shim.h"

#define SAME(mine, theirs) \
	_Static_assert(offsetof(struct vs_mbuf, mine) == offsetof(struct rte_mbuf, theirs), #mine); \
	_Static_assert(sizeof(((struct vs_mbuf *)0)->mine) == sizeof(((struct rte_mbuf *)0)->theirs), #mine)
SAME(buf_addr, buf_addr);
SAME(data_off, data_off);
SAME(refcnt, refcnt);
SAME(nb_segs, nb_segs);
SAME(port, port);
SAME(ol_flags, ol_flags);
SAME(packet_type, packet_type);
SAME(pkt_len, pkt_len);
SAME(data_len, data_len);
SAME(vlan_tci, vlan_tci);
SAME(hash_usr, hash.usr);
SAME(vlan_tci_outer, vlan_tci_outer);
SAME(buf_len, buf_len);
SAME(pool, pool);
SAME(next, next);
SAME(tx_offload, tx_offload);
_Static_assert(sizeof(struct vs_mbuf) <= sizeof(struct rte_mbuf), "vs_mbuf");

int vs_errno(void) { return rte_errno; }
unsigned int vs_lcore_id(void) { return rte_lcore_id(); }
uint16_t vs_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{ return rte_eth_rx_burst(port, queue, pkts, n); }
uint16_t vs_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{ return rte_eth_tx_burst(port, queue, pkts, n); }
int vs_eth_link(uint16_t port, struct vs_link *out)
{
	struct rte_eth_link link = {0};
	int err = rte_eth_link_get_nowait(port, &link);
	out->mbps = link.link_speed;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	return err;
}
int vs_rss_is_toeplitz(const struct rte_eth_rss_conf *conf)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
	return conf->algorithm == RTE_ETH_HASH_FUNCTION_DEFAULT ||
		conf->algorithm == RTE_ETH_HASH_FUNCTION_TOEPLITZ;
#else
	(void)conf;
	return 1;
#endif
}
uint32_t vs_softrss(uint32_t *words, uint32_t n, const uint8_t *key)
{ return rte_softrss(words, n, key); }
int vs_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n)
{ return rte_pktmbuf_alloc_bulk(pool, pkts, n); }
void vs_pktmbuf_free(struct rte_mbuf *m) { rte_pktmbuf_free(m); }
int vs_pktmbuf_linearize(struct rte_mbuf *m) { return rte_pktmbuf_linearize(m); }
uint16_t vs_pktmbuf_data_room_size(struct rte_mempool *pool)
{ return rte_pktmbuf_data_room_size(pool); }
unsigned int vs_mempool_size(const struct rte_mempool *pool) { return pool->size; }
unsigned int vs_ring_enqueue_burst(struct rte_ring *r, void *const *objs, unsigned int n)
{ return rte_ring_enqueue_burst(r, objs, n, NULL); }
unsigned int vs_ring_dequeue_burst(struct rte_ring *r, void **objs, unsigned int n)
{ return rte_ring_dequeue_burst(r, objs, n, NULL); }
unsigned int vs_ring_count(const struct rte_ring *r) { return rte_ring_count(r); }
unsigned int vs_ring_capacity(const struct rte_ring *r) { return rte_ring_get_capacity(r); }
uint64_t vs_rdtsc(void) { return rte_rdtsc(); }
void vs_pause(void) { rte_pause(); }

#ifdef __GLIBC__
static void (*log_sink)(int, const char *, size_t);
static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	/* rte_vlog flushes in the thread that logs, so the level is this message's. */
	log_sink(rte_log_cur_msg_loglevel(), text, len);
	return (ssize_t)len;
}
int vs_log_to(void (*sink)(int level, const char *text, size_t len))
{
	cookie_io_functions_t io = { .write = log_write };
	log_sink = sink;
	FILE *stream = fopencookie(NULL, "w", io);
	return stream == NULL ? -1 : rte_openlog_stream(stream);
}
#else
int vs_log_to(void (*sink)(int level, const char *text, size_t len)) { (void)sink; return -1; }
#endif
