-- Why: every attempt that ended is on record, abandoned ones too, so that an event's story can be read from its rows.
--
-- Append-only. The key makes a settle that is sent twice log once; the token tells whose attempt it was. There is no foreign
-- key: it would lock the event's row (KEY SHARE) on each insert and make multixacts on the hot table.
create table delivery_attempts (
    event_id      uuid        not null,
    number        integer     not null,
    token         uuid        not null,
    started_at    timestamptz not null,
    -- Unknown for an abandoned attempt.
    duration_ms   bigint,
    outcome       text        not null check (outcome in (
                      'delivered', 'rejected', 'timeout', 'dns', 'connect', 'tls', 'reset', 'body',
                      'response_too_large', 'target_refused', 'abandoned')),
    status_code   smallint,
    error         text,
    -- bytea: a receiver may answer with NUL or with bytes that are no UTF-8.
    response      bytea,
    next_retry_at timestamptz,
    primary key (event_id, number)
);
