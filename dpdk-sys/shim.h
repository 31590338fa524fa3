/* Static inline functions of DPDK that Rust calls, one C call per burst, and the few
 * layouts that its headers spell differently from release to release. */
#ifndef VSWITCH_DPDK_SHIM_H
#define VSWITCH_DPDK_SHIM_H
#include <stddef.h>
#include <stdint.h>
#include <rte_config.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* rte_mbuf's fields by plain names: newer headers wrap them in anonymous unions, which
 * bindgen names by position. shim.c asserts every offset against the real structure. */
#ifndef RTE_IOVA_IN_MBUF /* the name before 23.03 */
#define VS_IOVA_IN_MBUF RTE_IOVA_AS_PA
#else
#define VS_IOVA_IN_MBUF RTE_IOVA_IN_MBUF
#endif
struct vs_mbuf {
	void *buf_addr;
#if VS_IOVA_IN_MBUF
	uint64_t buf_iova;
#else
	struct vs_mbuf *next;
#endif
	uint16_t data_off;
	uint16_t refcnt;
	uint16_t nb_segs;
	uint16_t port;
	uint64_t ol_flags;
	uint32_t packet_type;
	uint32_t pkt_len;
	uint16_t data_len;
	uint16_t vlan_tci;
	uint32_t hash_usr;
	uint32_t hash_high;
	uint16_t vlan_tci_outer;
	uint16_t buf_len;
	void *pool;
#if VS_IOVA_IN_MBUF
	struct vs_mbuf *next;
#else
	uint64_t dynfield2;
#endif
	uint64_t tx_offload;
};

/* Function-like macros, which bindgen cannot read. */
static const uint64_t VS_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t VS_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t VS_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t VS_RSS_IP_UDP_TCP = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP;
static const uint64_t VS_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t VS_RSS_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t VS_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t VS_RSS_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
/* What changes nothing of how other packets of UDP are hashed. */
static const uint64_t VS_RSS_PLAIN = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP |
	RTE_ETH_RSS_SCTP | RTE_ETH_RSS_L2_PAYLOAD;
static const uint64_t VS_MBUF_F_ATTACHED = RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT;

struct vs_link {
	uint32_t mbps;
	uint8_t full_duplex;
	uint8_t up;
};

int vs_errno(void);
unsigned int vs_lcore_id(void);
uint16_t vs_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t vs_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
int vs_eth_link(uint16_t port, struct vs_link *link);
/* Whether the hash that a driver describes may be taken for Toeplitz. Before 23.11 drivers do not say:
 * it is the default of those that have RSS, and nobody asked for another. */
int vs_rss_is_toeplitz(const struct rte_eth_rss_conf *conf);
/* DPDK's own Toeplitz hash of 32-bit words in host order, for tests. */
uint32_t vs_softrss(uint32_t *words, uint32_t n, const uint8_t *key);
int vs_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n);
void vs_pktmbuf_free(struct rte_mbuf *m);
int vs_pktmbuf_linearize(struct rte_mbuf *m);
uint16_t vs_pktmbuf_data_room_size(struct rte_mempool *pool);
unsigned int vs_mempool_size(const struct rte_mempool *pool);
unsigned int vs_ring_enqueue_burst(struct rte_ring *r, void *const *objs, unsigned int n);
unsigned int vs_ring_dequeue_burst(struct rte_ring *r, void **objs, unsigned int n);
unsigned int vs_ring_count(const struct rte_ring *r);
unsigned int vs_ring_capacity(const struct rte_ring *r);
uint64_t vs_rdtsc(void);
void vs_pause(void);

/* Sends DPDK's log output to `sink` (level of rte_log.h, bytes of one or more lines).
 * Returns 0, or -1 if this libc has no fopencookie. */
int vs_log_to(void (*sink)(int level, const char *text, size_t len));
#endif
