/* The packet path: ChannelData, Send and Data indications (RFC 8656 §11, §12.4). No copies. */
#ifndef CT_CORE_TURN_DATA_H
#define CT_CORE_TURN_DATA_H

#include "core/turn_state.h"

/* A ChannelData message from a client. */
void turn_data_channel(struct turn_server *s, const struct turn_tuple *tuple,
                       struct turn_packet *packet, struct turn_now now);

/* A Send indication, already decoded. */
void turn_data_send(struct turn_server *s, const struct turn_tuple *tuple,
                    const struct stun_msg *msg, struct turn_now now);

#endif
