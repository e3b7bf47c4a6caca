-- The audit records each committed transition of each event, without the dispatcher's help.
-- A row commits with the change that it records, or not at all. Only the attempt row of the same
-- transaction is read from the dispatcher's tables.
--
-- The harness installs it in the database of a run. Updates of one row wait for each other, and the
-- trigger writes before the next update continues, so the numbers of one event are in commit order.
-- The numbers of different events have no order.
create schema chaos_audit;

create table chaos_audit.transitions (
    number         bigint  not null generated always as identity,
    -- The reader requests all transactions that its last snapshot could not contain.
    transaction    xid8    not null,
    step           text    not null,
    event_id       uuid    not null,
    target         text,
    attempt        integer not null,
    token          uuid,
    held           uuid,
    holder         bigint,
    outcome        text,
    now_us         bigint  not null,
    lease_until_us bigint,
    due_us         bigint,
    status         text    not null,
    reason         text,
    attempt_count  integer not null,
    failure_count  integer not null,
    abandon_count  integer not null,
    round          integer not null
);
create index on chaos_audit.transitions (transaction);

-- Rows of the harness that no client posted. They have no transitions.
create table chaos_audit.foreign_rows (event_id uuid primary key);

create function chaos_audit.us(at timestamptz) returns bigint
    language sql immutable strict
    return (extract(epoch from at) * 1000000)::bigint;

-- The row before, the row after and the new attempt row determine the transition. A deletion, or a
-- change that is not in the accounting table, is recorded as a settle. A checker then reports it.
-- An event that is stored with a lease is recorded as an accept and a claim of one transaction, so
-- that the rules of both apply.
create function chaos_audit.record() returns trigger language plpgsql security definer as $$
declare
    step    text;
    written record;
    attempt integer := 0;
    token   uuid;
    outcome text;
    held    uuid;
    holder  bigint;
    until   timestamptz;
begin
    if exists (select from chaos_audit.foreign_rows f where f.event_id in (new.id, old.id)) then
        return null;
    end if;
    if tg_op = 'INSERT' then
        step := 'accept';
        if new.lease_token is not null then
            insert into chaos_audit.transitions
                (transaction, step, event_id, target, attempt, now_us, due_us, status,
                 attempt_count, failure_count, abandon_count, round)
            values
                (pg_current_xact_id(), step, new.id, new.target_url, 0, chaos_audit.us(now()),
                 chaos_audit.us(new.created_at), 'pending', 0, 0, 0, 0);
            step := 'claim';
            attempt := new.attempt_count;
            token := new.lease_token;
            holder := new.holder;
            until := new.lease_until;
        end if;
    elsif tg_op = 'DELETE' then
        step := 'settle';
        attempt := old.attempt_count;
        held := old.lease_token;
        new := old;
        new.status := 'deleted';
    elsif new.lease_token is not null and new.lease_token is distinct from old.lease_token then
        step := 'claim';
        attempt := new.attempt_count;
        token := new.lease_token;
        held := old.lease_token;
        holder := new.holder;
        until := new.lease_until;
    else
        held := old.lease_token;
        holder := old.holder;
        until := old.lease_until;
        -- An AFTER trigger sees the attempt row that the same statement inserted.
        select a.number, a.token, a.outcome into written from public.delivery_attempts a
        where a.event_id = new.id and a.xmin = pg_current_xact_id()::xid
        order by a.number desc limit 1;
        attempt := coalesce(written.number, old.attempt_count);
        token := written.token;
        outcome := written.outcome;
        step := case
            when new.round > old.round then 'replay'
            when new.reason = 'cancelled' and old.status = 'pending' then 'cancel'
            when written.outcome = 'abandoned' then 'reclaim'
            when written.number is null and new.attempt_count < old.attempt_count then 'release'
            else 'settle'
        end;
    end if;
    insert into chaos_audit.transitions
        (transaction, step, event_id, target, attempt, token, held, holder, outcome,
         now_us, lease_until_us, due_us,
         status, reason, attempt_count, failure_count, abandon_count, round)
    values
        (pg_current_xact_id(), step, new.id, case when step = 'accept' then new.target_url end,
         attempt, token, held, holder, outcome,
         chaos_audit.us(now()), chaos_audit.us(until), chaos_audit.us(new.next_retry_at),
         new.status, new.reason,
         new.attempt_count, new.failure_count, new.abandon_count, new.round);
    return null;
end $$;

create trigger chaos_audit after insert or delete on public.webhook_events
    for each row execute function chaos_audit.record();
-- An update that changes nothing is not a transition.
create trigger chaos_audit_update after update on public.webhook_events
    for each row when (old.* is distinct from new.*) execute function chaos_audit.record();
