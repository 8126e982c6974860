/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `fairlead slo` as JSON; the shape is in doc/rpc.md.
 */
#pragma once

#include "ctl/slo_snapshot.h"

#include <jansson.h>

json_t *slo_json(const struct slo_snapshot *s);
