/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handlers of what both sides agree on before and beside the queues: features, config space, device status, reset.
 * Called by the session on the control thread.
 */
#include "vhost/session_internal.h"

#include <errno.h>
#include <string.h>

#define BIT(n) (UINT64_C(1) << (n))

/*
 * Of the ring's bits never IN_ORDER (completions come as the store gives them) and not RING_RESET: front-ends do
 * not tell a back-end of it for every device type.
 */
#define TRANSPORT_FEATURES                                                                                         \
	(BIT(VHOST_F_LOG_ALL_BIT) | BIT(VHOST_F_PROTOCOL_FEATURES_BIT) | BIT(VIRTIO_F_RING_INDIRECT_DESC_BIT) |    \
	 BIT(VIRTIO_F_RING_EVENT_IDX_BIT) | BIT(VIRTIO_F_VERSION_1_BIT) | BIT(VIRTIO_F_RING_PACKED_BIT))

/* No host notifiers: a mapped page would swallow the doorbell that lets a worker sleep. */
#define PROTOCOL_FEATURES                                                                                         \
	(BIT(VHOST_PROTOCOL_MQ) | BIT(VHOST_PROTOCOL_LOG_SHMFD) | BIT(VHOST_PROTOCOL_REPLY_ACK) |                 \
	 BIT(VHOST_PROTOCOL_BACKEND_REQ) | BIT(VHOST_PROTOCOL_CONFIG) | BIT(VHOST_PROTOCOL_INFLIGHT_SHMFD) |      \
	 BIT(VHOST_PROTOCOL_RESET_DEVICE) | BIT(VHOST_PROTOCOL_MEM_SLOTS) | BIT(VHOST_PROTOCOL_STATUS) |          \
	 BIT(VHOST_PROTOCOL_BASE_INFLIGHT) | BIT(VHOST_PROTOCOL_SKIP_DRAIN))

static int reply_u64(struct vhost_session *s, uint64_t value)
{
	return vhost_session_reply(s, &value, sizeof(value), -1);
}

uint64_t vhost_session_features(struct vhost_device *device)
{
	return device->ops->features(device) | TRANSPORT_FEATURES;
}

int vhost_get_features(struct vhost_session *s, struct vhost_message *m)
{
	return reply_u64(s, vhost_session_features(s->device));
}

static void features_logged(struct vhost_session *s, int result)
{
	/* A migration without its log would lose data; the front-end comes back and asks again. */
	if (result < 0)
		vhost_session_end(s, "the dirty log cannot be turned on or off");
	vhost_vrings_start_and_answer(s);
}

/* While queues run only the dirty log may be turned on or off, which is how live migration begins and ends. */
int vhost_set_features(struct vhost_session *s, struct vhost_message *m)
{
	uint64_t features = m->payload.u64, changed = features ^ s->features;
	uint64_t unknown = features & ~vhost_session_features(s->device);

	if (unknown)
		return vhost_session_refuse(s, -EINVAL, "features %#llx were not offered", (unsigned long long)unknown);
	if (vhost_vrings_running(s) > 0 && changed & ~BIT(VHOST_F_LOG_ALL_BIT))
		return vhost_session_refuse(s, -EBUSY, "features change while queues run");
	s->features = features;
	s->features_known = true;
	vhost_vrings_retry(s);
	if (vhost_vrings_running(s) == 0)
		s->device->ops->features_set(s->device, features & ~(BIT(VHOST_F_LOG_ALL_BIT) |
								     BIT(VHOST_F_PROTOCOL_FEATURES_BIT)));
	vhost_wait_begin(s, features_logged);
	vhost_log_apply(s);
	vhost_wait_end(s);
	return VHOST_WAITS;
}

int vhost_get_protocol_features(struct vhost_session *s, struct vhost_message *m)
{
	return reply_u64(s, PROTOCOL_FEATURES);
}

int vhost_set_protocol_features(struct vhost_session *s, struct vhost_message *m)
{
	uint64_t unknown = m->payload.u64 & ~PROTOCOL_FEATURES;

	if (unknown)
		return vhost_session_refuse(s, -EINVAL, "protocol features %#llx were not offered",
					    (unsigned long long)unknown);
	s->protocol_features = m->payload.u64;
	return 0;
}

int vhost_get_queue_num(struct vhost_session *s, struct vhost_message *m)
{
	return reply_u64(s, s->n_vrings);
}

int vhost_set_owner(struct vhost_session *s, struct vhost_message *m)
{
	return 0;
}

/* The front-end tells the access' size, and sends as many bytes. */
static bool config_valid(const struct vhost_message *m)
{
	const struct vhost_config *c = &m->payload.config;

	return c->size > 0 && m->header.size == VHOST_CONFIG_HEAD + c->size && c->offset <= VHOST_CONFIG_MAX &&
	       c->size <= VHOST_CONFIG_MAX - c->offset;
}

/*
 * A front-end may ask for more than the device has: it gets what there is, then zeros. Out of all range: an empty
 * reply.
 */
int vhost_get_config(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_config reply = { .offset = m->payload.config.offset, .flags = m->payload.config.flags };

	if (!config_valid(m))
		return vhost_session_reply(s, &reply, VHOST_CONFIG_HEAD, -1);
	reply.size = m->payload.config.size;
	s->device->ops->config_read(s->device, reply.offset, reply.bytes, reply.size);
	return vhost_session_reply(s, &reply, VHOST_CONFIG_HEAD + reply.size, -1);
}

int vhost_set_config(struct vhost_session *s, struct vhost_message *m)
{
	const struct vhost_config *c = &m->payload.config;

	if (!config_valid(m))
		return -EINVAL;
	return s->device->ops->config_write(s->device, c->offset, c->bytes, c->size);
}

int vhost_get_status(struct vhost_session *s, struct vhost_message *m)
{
	return reply_u64(s, s->status);
}

static void reset_stopped(struct vhost_session *s, int result)
{
	vhost_vrings_reset(s);
	s->status = 0;
	vhost_session_answer(s, 0);
}

/*
 * RESET_DEVICE and the old RESET_OWNER: all queues stop and are forgotten. Memory, the inflight region and what was
 * negotiated stay, because a front-end sends them anew only where they change.
 */
int vhost_reset_device(struct vhost_session *s, struct vhost_message *m)
{
	vhost_wait_begin(s, reset_stopped);
	vhost_vrings_stop(s, false);
	vhost_wait_end(s);
	return VHOST_WAITS;
}

static void status_stopped(struct vhost_session *s, int result)
{
	vhost_vrings_halt(s);
	s->status = 0;
	vhost_session_answer(s, 0);
}

/*
 * Status 0 ends all queues too, but where they stood is kept: QEMU 7.2 sends it first when it stops a device, asks for the
 * bases only then, and a migration carries what it is told.
 */
int vhost_set_status(struct vhost_session *s, struct vhost_message *m)
{
	if (m->payload.u64 > UINT8_MAX)
		return -EINVAL;
	if (m->payload.u64 == 0) {
		vhost_wait_begin(s, status_stopped);
		vhost_vrings_stop(s, false);
		vhost_wait_end(s);
		return VHOST_WAITS;
	}
	s->status = (uint8_t)m->payload.u64;
	return 0;
}
