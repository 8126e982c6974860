/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests and rehearsals ask of the model beyond `struct store_ops`.
 */
#pragma once

#include "store/store.h"

/* When the device is done with the request: booked in submit, valid from then on. */
uint64_t model_due_ns(const struct store_io *io);
