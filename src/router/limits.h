/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every bound of the router in one place; beyond each: not exposed, and said. */
#pragma once

#define ROUTER_MAX_ADDRESSES 12000 /* addresses that some key names */
#define ROUTER_MAX_STRAYS    20000 /* keys without a valid address that are remembered */
#define ROUTER_SHOWN_STRAYS  32    /* ... and that are named in status */
#define ROUTER_MAX_SPELLINGS 8     /* keys that claim one address */
#define ROUTER_MAX_OBJECTS   512   /* set elements and proxy entries of one address */
#define ROUTER_LOG_BURST     20    /* refusals of one reading that are logged one by one */

#define ROUTER_TICK_US             10000000u /* read back what the kernel does not notify */
#define ROUTER_ADOPT_US            60000000u /* without QubesDB at the start: keep this long */
#define ROUTER_NFT_SPACING_US      30000u    /* least time between two looks at foreign changes */
/* Another host has the address: ask again after the least, twice that ... up to the most. */
#define ROUTER_CONFLICT_LEAST_US   1000000u
#define ROUTER_CONFLICT_MOST_US    30000000u
