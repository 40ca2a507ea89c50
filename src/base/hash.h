/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 64-bit FNV-1a: tells honest changes apart. It withstands nobody who wants two texts to look alike. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* Adds len bytes to h. */
uint64_t hash_bytes(uint64_t h, const void *bytes, size_t len);
