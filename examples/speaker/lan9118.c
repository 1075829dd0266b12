/* lan9118.c: SMSC LAN9118 Ethernet, by polling, with one interrupt that ends a sleep.
 *
 * Always: a frame that waits is read and dropped whole before the next one is looked at; the
 * interrupt is masked from when it fires until board_eth_waiting finds nothing any more, since the
 * chip holds its line up for as long as a frame waits. Register names are the data sheet's. */
#include "board.h"

enum { BASE = 0x40200000, IRQ = 13, CRC = 4, SPIN = 100000 };
enum { /* registers */
       RX_DATA_FIFO = 0x00,
       TX_DATA_FIFO = 0x20,
       RX_STATUS_FIFO = 0x40,
       TX_STATUS_FIFO = 0x48,
       IRQ_CFG = 0x54,
       INT_STS = 0x58,
       INT_EN = 0x5c,
       BYTE_TEST = 0x64,
       FIFO_INT = 0x68,
       RX_CFG = 0x6c,
       TX_CFG = 0x70,
       HW_CFG = 0x74,
       RX_FIFO_INF = 0x7c,
       TX_FIFO_INF = 0x80,
       MAC_CSR_CMD = 0xa4,
       MAC_CSR_DATA = 0xa8
};
enum { /* registers of the MAC, behind MAC_CSR_CMD */ MAC_CR = 1,
       ADDRH = 2,
       ADDRL = 3,
       MII_ACC = 6,
       MII_DATA = 7 };
enum { /* bits */
       RSFL_INT = 1 << 3,
       SOFT_RESET = 1,
       TX_ON = 1 << 1,
       RX_ERROR = 1 << 15,
       FULL_DUPLEX = 1 << 20,
       ALL_MULTICAST = 1 << 19,
       TX_ENABLE = 1 << 3,
       RX_ENABLE = 1 << 2,
       MII_BUSY = 1,
       PHY_LINK = 1 << 2
};

static uint32_t words_left; /* of the frame being read */
void board_eth_irq(void);

static volatile uint32_t *reg(uint32_t offset) { return (volatile uint32_t *)(BASE + offset); }

/* ---- registers behind registers -------------------------------------------------------------- */

static void mac_wait(void) {
    uint32_t spin;
    for (spin = 0; spin < SPIN && *reg(MAC_CSR_CMD) >> 31 != 0; spin++)
        ;
}

static void mac_write(uint32_t which, uint32_t value) {
    mac_wait();
    *reg(MAC_CSR_DATA) = value;
    *reg(MAC_CSR_CMD) = 1u << 31 | which;
    mac_wait();
}

static uint32_t mac_read(uint32_t which) {
    mac_wait();
    *reg(MAC_CSR_CMD) = 1u << 31 | 1u << 30 | which;
    mac_wait();
    return *reg(MAC_CSR_DATA);
}

static uint32_t phy_read(uint32_t which) {
    uint32_t spin;
    mac_write(MII_ACC, 1u << 11 | which << 6 | MII_BUSY);
    for (spin = 0; spin < SPIN && (mac_read(MII_ACC) & MII_BUSY) != 0; spin++)
        ;
    return mac_read(MII_DATA);
}

bool board_eth_link(void) {
    (void)phy_read(1); /* the bit holds a loss of link until it is read */
    return (phy_read(1) & PHY_LINK) != 0;
}

/* ---- start ----------------------------------------------------------------------------------- */

static void irq_enable(void) { *(volatile uint32_t *)0xe000e100 = 1u << IRQ; }
static void irq_disable(void) { *(volatile uint32_t *)0xe000e180 = 1u << IRQ; }

void board_eth_irq(void) { irq_disable(); }

static bool reset(void) {
    uint32_t spin;
    if (*reg(BYTE_TEST) != 0x87654321u)
        return false;
    *reg(HW_CFG) = SOFT_RESET;
    for (spin = 0; spin < SPIN && (*reg(HW_CFG) & SOFT_RESET) != 0; spin++)
        ;
    return (*reg(HW_CFG) & SOFT_RESET) == 0;
}

int board_eth_start(const uint8_t mac[6]) {
    if (!reset())
        return -1;
    *reg(HW_CFG) = 2u << 16 | 1u << 20; /* 2 KB of FIFO to send, 14 to receive; whole frames */
    mac_write(ADDRL,
              mac[0] | (uint32_t)mac[1] << 8 | (uint32_t)mac[2] << 16 | (uint32_t)mac[3] << 24);
    mac_write(ADDRH, mac[4] | (uint32_t)mac[5] << 8);
    mac_write(MAC_CR, FULL_DUPLEX | ALL_MULTICAST | TX_ENABLE | RX_ENABLE);
    *reg(RX_CFG) = 0;
    *reg(TX_CFG) = TX_ON;
    *reg(FIFO_INT) = 0; /* one frame is enough to interrupt */
    *reg(INT_STS) = 0xffffffff;
    *reg(INT_EN) = RSFL_INT;
    *reg(IRQ_CFG) = 1u << 8 | 1u << 4 | 1u; /* on, active high, push-pull */
    irq_enable();
    return 0;
}

/* ---- in -------------------------------------------------------------------------------------- */

/* First the old interrupt is taken back, then comes the look: a frame that arrives in between
 * raises a new one. */
bool board_eth_waiting(void) {
    *reg(INT_STS) = RSFL_INT;
    if ((*reg(RX_FIFO_INF) >> 16 & 0xff) != 0)
        return true;
    irq_enable();
    return false;
}

uint32_t board_eth_size(void) {
    uint32_t status = *reg(RX_STATUS_FIFO), size = status >> 16 & 0x3fff;
    words_left = (size + 3) / 4;
    if ((status & RX_ERROR) != 0 || size <= CRC)
        return 0;
    return size - CRC;
}

void board_eth_read(void *out, uint32_t size) {
    uint8_t *at = (uint8_t *)out;
    uint32_t word;
    for (; size > 0 && words_left > 0; words_left--) {
        uint32_t part = size < 4 ? size : 4;
        word = *reg(RX_DATA_FIFO);
        __builtin_memcpy(at, &word, part);
        at += part;
        size -= part;
    }
}

void board_eth_done(void) {
    for (; words_left > 0; words_left--)
        (void)*reg(RX_DATA_FIFO);
}

/* ---- out ------------------------------------------------------------------------------------- */

/* Bytes of a word that is not whole yet, when a frame's pieces do not end on words. */
static uint32_t partial, partial_size;

bool board_eth_begin(uint32_t size) {
    while ((*reg(TX_FIFO_INF) >> 16 & 0xff) != 0) /* what became of the frames before */
        (void)*reg(TX_STATUS_FIFO);
    if ((*reg(TX_FIFO_INF) & 0xffff) < size + 16)
        return false;
    *reg(TX_DATA_FIFO) = 3u << 12 | size; /* first and last segment */
    *reg(TX_DATA_FIFO) = size;
    partial = 0;
    partial_size = 0;
    return true;
}

void board_eth_write(const void *data, uint32_t size) {
    const uint8_t *at = (const uint8_t *)data;
    uint32_t word;
    for (; partial_size == 0 && size >= 4; size -= 4, at += 4) {
        __builtin_memcpy(&word, at, 4);
        *reg(TX_DATA_FIFO) = word;
    }
    for (; size > 0; size--) {
        partial |= (uint32_t)*at++ << 8 * partial_size++;
        if (partial_size == 4)
            board_eth_end();
    }
}

void board_eth_end(void) {
    if (partial_size > 0)
        *reg(TX_DATA_FIFO) = partial;
    partial = 0;
    partial_size = 0;
}
