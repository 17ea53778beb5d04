/* What the BEAM is told about allocations: the terms of docs/control.md. */
#ifndef CT_RELAY_EVENT_H
#define CT_RELAY_EVENT_H

#include "core/turn_server.h"
#include "relay/term.h"

/* A whole `{event, Name, Map}` of the worker with this number. */
void event_put(struct term_out *out, const struct turn_event *event, unsigned worker);

/* `{event, log, #{level, message}}`; level is "info", "warning" or "error". */
void event_put_log(struct term_out *out, const char *level, const char *message);

/* One `Allocation` map. */
void event_put_alloc(struct term_out *out, const struct turn_alloc_info *info, unsigned worker);

/* The binary that names an allocation: worker and number. Reads what event_put_alloc() wrote. */
bool event_parse_id(struct span text, unsigned *worker, uint64_t *id);

#endif
