-- Why: one row an event, from the 202 to its end, is all that the dispatcher knows. Postgres is the only source of truth.
--
-- The lease lives in the row and in no index, so that a claim changes no indexed column and stays a HOT update; the low
-- fillfactor leaves it the room. No column has a default that reads a clock: every time is the `now()` of the transaction
-- that makes the transition.
create table webhook_events (
    id              uuid        not null primary key,
    -- As the client gave it. `target_given` is false when the setting TARGET_URL filled it in.
    target_url      text        not null,
    target_given    boolean     not null,
    -- The client's own bytes of the JSON value: sent unchanged, hence bytea and not jsonb.
    payload         bytea       not null,
    idempotency_key text,
    status          text        not null check (status in ('pending', 'delivered', 'dead')),
    reason          text        check (reason in ('exhausted', 'gone', 'abandoned', 'cancelled')),
    -- Counts of this round are failure_count and abandon_count; attempt_count never starts again.
    round           integer     not null,
    attempt_count   integer     not null,
    failure_count   integer     not null,
    abandon_count   integer     not null,
    next_retry_at   timestamptz,
    lease_token     uuid,
    lease_until     timestamptz,
    claimed_at      timestamptz,
    holder          bigint,
    created_at      timestamptz not null,
    finished_at     timestamptz,
    constraint lease_is_whole check (
        (lease_token is null) = (lease_until is null)
        and (lease_token is null) = (claimed_at is null)
        and (lease_token is null) = (holder is null)
    ),
    constraint pending_is_due check ((status = 'pending') = (next_retry_at is not null)),
    constraint only_pending_is_leased check (status = 'pending' or lease_token is null),
    constraint an_end_has_a_time check ((status = 'pending') = (finished_at is null)),
    constraint the_dead_have_a_reason check ((status = 'dead') = (reason is not null))
) with (fillfactor = 70);

-- The one index of the claim. Its predicate is written as a literal in the statements, or a generic plan could not use it.
create index webhook_events_due on webhook_events (next_retry_at) where status = 'pending';

-- One key, one event, whatever number of processes race for it.
create unique index webhook_events_idempotency_key on webhook_events (idempotency_key)
    where idempotency_key is not null;
