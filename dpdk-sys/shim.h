/* Static inline functions of DPDK that Rust calls, one C call per burst. */
#ifndef VSWITCH_DPDK_SHIM_H
#define VSWITCH_DPDK_SHIM_H
#include <stdint.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_mempool.h>

int vs_errno(void);
unsigned int vs_lcore_id(void);
uint16_t vs_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t vs_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
int vs_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n);
void vs_pktmbuf_free(struct rte_mbuf *m);
int vs_pktmbuf_linearize(struct rte_mbuf *m);
unsigned int vs_ring_enqueue_burst(struct rte_ring *r, void *const *objs, unsigned int n);
unsigned int vs_ring_dequeue_burst(struct rte_ring *r, void **objs, unsigned int n);
unsigned int vs_ring_count(const struct rte_ring *r);
uint64_t vs_rdtsc(void);
void vs_pause(void);
#endif
