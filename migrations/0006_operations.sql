-- Why: an operator who changes rows by hand breaks their accounting. These functions are the
-- transitions cancel and replay, for the API and for everyone with a SQL client.
--
-- Both return no row if there is no such event, else one row: whether the transition was possible,
-- and the event after it. An event that a transaction holds is waited for.
create or replace function webhook_cancel(event uuid)
returns table (id uuid, is_done boolean, status text, reason text, round integer, in_flight boolean)
language sql as $$
    with held as materialized (
        select e.id, e.status, e.reason, e.round, e.lease_token, e.claimed_at, e.attempt_count
        from webhook_events e where e.id = event for update
    ), cancelled as (
        update webhook_events e
        set status = 'dead', reason = 'cancelled', next_retry_at = null, finished_at = now(),
            lease_token = null, lease_until = null, claimed_at = null, holder = null
        where e.id in (select h.id from held h where h.status = 'pending')
        returning e.id
    ), logged as (
        -- A request may be on its way, and its result will change nothing. An operator may have
        -- set attempt_count back.
        insert into delivery_attempts (event_id, number, token, started_at, outcome)
        select h.id, h.attempt_count, h.lease_token, h.claimed_at, 'abandoned'
        from held h join cancelled c on c.id = h.id where h.lease_token is not null
        on conflict (event_id, number) do nothing
    )
    select h.id, c.id is not null or h.reason is not distinct from 'cancelled',
        case when c.id is null then h.status else 'dead' end,
        case when c.id is null then h.reason else 'cancelled' end,
        h.round, h.lease_token is not null
    from held h left join cancelled c on c.id = h.id
$$;

-- `if_round` is the round that the caller has seen. Of two replays with the same one, only the
-- first is done. Without it, every finished event is replayed.
create or replace function webhook_replay(event uuid, if_round integer default null)
returns table (id uuid, is_done boolean, status text, reason text, round integer, in_flight boolean)
language sql as $$
    with held as materialized (
        select e.id, e.status, e.reason, e.round, e.lease_token
        from webhook_events e where e.id = event for update
    ), replayed as (
        update webhook_events e
        set status = 'pending', reason = null, round = e.round + 1, failure_count = 0,
            abandon_count = 0, next_retry_at = now(), finished_at = null
        where e.id in (
            select h.id from held h where h.status <> 'pending' and h.round = coalesce(if_round, h.round)
        )
        returning e.id, e.round
    )
    select h.id, r.id is not null, case when r.id is null then h.status else 'pending' end,
        case when r.id is null then h.reason end, coalesce(r.round, h.round),
        h.lease_token is not null
    from held h left join replayed r on r.id = h.id
$$;
