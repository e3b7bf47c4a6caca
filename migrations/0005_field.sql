-- Why: a time that no reader can express must not get into a row, and dead index entries must not
-- gather for as long as the default settings of autovacuum allow.
--
-- The range is that of RFC 3339, so it excludes infinity too. The checks are not validated, because
-- that reads the whole table. Postgres checks each new version of a row, so a pending event with
-- such a time could never be claimed. Those events are repaired first. Finished events and attempts
-- are not written again, and the dispatcher reads any time in them.
update webhook_events set
    created_at = greatest('0001-01-01 00:00:00+00', least('9999-12-31 00:00:00+00', created_at)),
    next_retry_at = greatest('0001-01-01 00:00:00+00', least('9999-12-31 00:00:00+00', next_retry_at)),
    lease_until = case when lease_token is not null then
        greatest('0001-01-01 00:00:00+00', least('9999-12-31 00:00:00+00', lease_until)) end,
    claimed_at = case when lease_token is not null then
        greatest('0001-01-01 00:00:00+00', least('9999-12-31 00:00:00+00', claimed_at)) end
where status = 'pending' and (
    created_at not between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    or next_retry_at not between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    or lease_until not between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    or claimed_at not between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
);

alter table webhook_events add constraint times_are_finite check (
    created_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    and next_retry_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    and lease_until between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    and claimed_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    and finished_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
) not valid;

alter table delivery_attempts add constraint times_are_finite check (
    started_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    and next_retry_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
) not valid;

-- The number of dead entries that a claim may meet depends on the rate of deliveries, not on the
-- size of the table. With the default scale factor, a table of ten million rows is vacuumed after
-- two million updates.
alter table webhook_events set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000
);
alter table delivery_attempts set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000
);
