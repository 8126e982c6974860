/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every fuzz target is: a function of bytes that ends, or aborts.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition) \
	do {             \
		if (!(condition)) \
			abort();  \
	} while (0)
