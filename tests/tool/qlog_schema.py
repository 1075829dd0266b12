"""What a record of our qlog may hold, as JSON schema (draft 7).

The header, the fields every event has, RawInfo and simulation:* are written down from the CDDL of
draft-ietf-quic-qlog-main-schema-13; frames, packet headers, endpoints and metrics are QUIC's, from
draft-ietf-quic-qlog-quic-events-12, with what p2p.h adds marked. A field that is in neither is an error."""

UINT64 = {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}
UINT32 = {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 1}
UINT16 = {"type": "integer", "minimum": 0, "maximum": (1 << 16) - 1}
TEXT = {"type": "string"}
BOOL = {"type": "boolean"}
MILLISECONDS = {"type": "number", "minimum": 0}
HEX = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
URI = {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:[^ ]+$"}


def one_of(*words):
    return {"enum": list(words)}


def record(required=None, optional=None):
    """A CDDL map that is closed."""
    required, optional = required or {}, optional or {}
    return {"type": "object", "properties": {**required, **optional}, "required": list(required),
            "additionalProperties": False}


RAW = record(optional={"length": UINT64, "payload_length": UINT64, "data": HEX})

# ---- the header: LogFile, QlogFileSeq, TraceSeq, VantagePoint, CommonFields, ReferenceTime ----------

REFERENCE_TIME = record({"clock_type": TEXT, "epoch": TEXT}, {"wall_clock_time": TEXT})
REFERENCE_TIME["if"] = {"properties": {"clock_type": {"const": "monotonic"}}}
REFERENCE_TIME["then"] = {"properties": {"epoch": {"const": "unknown"}}}  # section 6.1

COMMON_FIELDS = record(optional={
    "tuple": TEXT, "group_id": TEXT, "reference_time": REFERENCE_TIME,
    "time_format": one_of("relative_to_epoch", "relative_to_previous_event")})
VANTAGE_POINT = record({"type": one_of("client", "server", "network", "unknown")},
                       {"name": TEXT, "flow": one_of("client", "server", "unknown")})
VANTAGE_POINT["if"] = {"properties": {"type": {"const": "network"}}}
VANTAGE_POINT["then"] = {"required": ["flow"]}
TRACE = record({"event_schemas": {"type": "array", "minItems": 1, "items": URI}},
               {"title": TEXT, "description": TEXT, "common_fields": COMMON_FIELDS,
                "vantage_point": VANTAGE_POINT})
HEADER = record({"file_schema": {"const": "urn:ietf:params:qlog:file:sequential"},
                 "serialization_format": {"const": "application/qlog+json-seq"}, "trace": TRACE},
                {"title": TEXT, "description": TEXT})

# ---- QUIC's types -----------------------------------------------------------------------------------

ENDPOINT = record(optional={"ip_v4": TEXT, "port_v4": UINT16, "ip_v6": TEXT, "port_v6": UINT16})
PACKET_HEADER = record({"packet_type": one_of("1RTT")}, {"packet_number": UINT64, "dcid": HEX})
STREAM_KIND = one_of("unidirectional", "bidirectional", "request")  # p2p.h: request
ERROR = {"error": one_of("unknown"), "error_code": UINT64}


def frame(name, required=None, optional=None):
    return record({"frame_type": {"const": name}, **(required or {})}, {"raw": RAW, **(optional or {})})


FRAME = {"oneOf": [
    frame("padding"),
    frame("ping"),
    frame("ack", optional={
        "ack_delay": MILLISECONDS, "ect0": UINT64, "ect1": UINT64, "ce": UINT64,
        "acked_ranges": {"type": "array", "minItems": 1, "items": {
            "type": "array", "minItems": 1, "maxItems": 2, "items": UINT64}}}),
    frame("reset_stream", {"stream_id": UINT64, "error": ERROR["error"], "final_size": UINT64},
          {"error_code": UINT64}),
    frame("stop_sending", {"stream_id": UINT64, "error": ERROR["error"]}, {"error_code": UINT64}),
    frame("stream", {"stream_id": UINT64}, {"offset": UINT64, "fin": BOOL}),
    frame("max_data", {"maximum": UINT64}),
    frame("max_stream_data", {"stream_id": UINT64, "maximum": UINT64}),
    frame("max_streams", {"stream_type": STREAM_KIND, "maximum": UINT64}),
    frame("data_blocked", {"limit": UINT64}),
    frame("stream_data_blocked", {"stream_id": UINT64, "limit": UINT64}),
    frame("streams_blocked", {"stream_type": STREAM_KIND, "limit": UINT64}),
    frame("path_challenge", optional={"data": HEX}),
    frame("path_response", optional={"data": HEX}),
    frame("connection_close", optional={
        "error_space": one_of("transport", "application"), "reason": TEXT, **ERROR}),
    frame("datagram"),
    frame("unknown", {"frame_type_bytes": UINT64}),
]}

METRICS = {  # QUICRecoveryMetricsUpdated, all of it optional there
    "min_rtt": MILLISECONDS, "smoothed_rtt": MILLISECONDS, "rtt_variance": MILLISECONDS,
    "congestion_window": UINT64, "bytes_in_flight": UINT64, "pacing_rate": UINT64}

# ---- events -----------------------------------------------------------------------------------------

DATAGRAM = {"datagram_id": UINT32, "raw": RAW, "source": ENDPOINT, "target": ENDPOINT}
CONNECTION = {"connection": UINT32}  # p2p.h: the handle at the node that tells it
PACKET = record({"header": PACKET_HEADER, "frames": {"type": "array", "items": FRAME}, "raw": RAW,
                 "datagram_id": UINT32}, {"malformed": BOOL})
STREAM = {"stream": UINT32, **CONNECTION}

DATA = {
    "simulation:scenario": record(optional={"name": TEXT, "details": {"type": "object"}}),
    "simulation:marker": record(optional={"type": TEXT, "message": TEXT}),
    "p2p:vertex_updated": record({"id": HEX, "address": ENDPOINT, "runs": BOOL}),
    "p2p:datagram_sent": record(DATAGRAM),
    "p2p:datagram_received": record(DATAGRAM),
    "p2p:datagram_forwarded": record({**DATAGRAM, "at": TEXT}),
    "p2p:datagram_duplicated": record({**DATAGRAM, "at": TEXT, "link_to": TEXT}),
    "p2p:datagram_corrupted": record({**DATAGRAM, "at": TEXT, "link_to": TEXT}),
    "p2p:datagram_dropped": record({**DATAGRAM, "at": TEXT, "trigger": {
        "type": "string", "pattern": "^[a-z_]+$"}}, {"link_to": TEXT}),
    "p2p:packet_sent": PACKET,
    "p2p:packet_received": PACKET,
    "p2p:recovery_metrics_updated": record({**METRICS, "packets_lost": UINT64, "mtu": UINT32, **CONNECTION}),
    "p2p:connection_started": record({"local": ENDPOINT, "peer_id": HEX,
                                      "initiator": one_of("local", "remote"), **CONNECTION},
                                     {"remote": ENDPOINT}),
    "p2p:connection_restarted": record({"messages_unacknowledged": UINT64, "error_code": UINT64, **CONNECTION}),
    "p2p:connection_closed": record({
        "error": {"type": "string", "pattern": "^P2P_(OK|ERR_[A-Z_]+)$"}, "error_code": UINT64,
        "reason": TEXT, "trigger": one_of("idle_timeout", "application", "error"), **CONNECTION},
        {"initiator": one_of("local", "remote")}),
    "p2p:path_updated": record({"relayed": BOOL, "rtt": MILLISECONDS, **CONNECTION}),
    "p2p:stream_opened": record(STREAM),
    "p2p:stream_closed": record({**STREAM, "error_code": UINT64, "error": {
        "type": "string", "pattern": "^P2P_(OK|ERR_[A-Z_]+)$"}}),
    "p2p:message_received": record({"raw": RAW, **CONNECTION}),
    "p2p:application_datagram_received": record({"raw": RAW, **CONNECTION}),
    "p2p:request_received": record(STREAM),
    "p2p:response_received": record({"status": {"type": "integer", "minimum": 0, "maximum": 599}, **STREAM}),
}


def event(name):
    """Event of the main schema, section 6, with the data of this one."""
    return record({"time": MILLISECONDS, "name": {"const": name}, "data": DATA[name]},
                  {"group_id": TEXT})
