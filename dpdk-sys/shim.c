#include <rte_config.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_cycles.h>
#include <rte_pause.h>
#include "shim.h"

int vs_errno(void) { return rte_errno; }
unsigned int vs_lcore_id(void) { return rte_lcore_id(); }
uint16_t vs_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{ return rte_eth_rx_burst(port, queue, pkts, n); }
uint16_t vs_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{ return rte_eth_tx_burst(port, queue, pkts, n); }
int vs_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n)
{ return rte_pktmbuf_alloc_bulk(pool, pkts, n); }
void vs_pktmbuf_free(struct rte_mbuf *m) { rte_pktmbuf_free(m); }
int vs_pktmbuf_linearize(struct rte_mbuf *m) { return rte_pktmbuf_linearize(m); }
unsigned int vs_ring_enqueue_burst(struct rte_ring *r, void *const *objs, unsigned int n)
{ return rte_ring_enqueue_burst(r, objs, n, NULL); }
unsigned int vs_ring_dequeue_burst(struct rte_ring *r, void **objs, unsigned int n)
{ return rte_ring_dequeue_burst(r, objs, n, NULL); }
unsigned int vs_ring_count(const struct rte_ring *r) { return rte_ring_count(r); }
uint64_t vs_rdtsc(void) { return rte_rdtsc(); }
void vs_pause(void) { rte_pause(); }
