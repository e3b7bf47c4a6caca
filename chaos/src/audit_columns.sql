-- Lists the columns that the trigger of audit.sql reads and that this database does not have.
-- A table webhook_events of another dispatcher may have other columns, and the trigger would then
-- fail each of its inserts.
select needed.table_name || '.' || needed.column_name || ' ' || needed.type_name
from (values
    ('webhook_events', 'id', 'uuid'),
    ('webhook_events', 'target_url', 'text'),
    ('webhook_events', 'status', 'text'),
    ('webhook_events', 'reason', 'text'),
    ('webhook_events', 'round', 'integer'),
    ('webhook_events', 'attempt_count', 'integer'),
    ('webhook_events', 'failure_count', 'integer'),
    ('webhook_events', 'abandon_count', 'integer'),
    ('webhook_events', 'next_retry_at', 'timestamptz'),
    ('webhook_events', 'lease_token', 'uuid'),
    ('webhook_events', 'lease_until', 'timestamptz'),
    ('webhook_events', 'holder', 'bigint'),
    ('delivery_attempts', 'event_id', 'uuid'),
    ('delivery_attempts', 'number', 'integer'),
    ('delivery_attempts', 'token', 'uuid'),
    ('delivery_attempts', 'outcome', 'text')
) needed (table_name, column_name, type_name)
where not exists (
    select from pg_attribute a
    where a.attrelid = to_regclass('public.' || needed.table_name)
        and a.attname = needed.column_name
        and a.atttypid = needed.type_name::regtype
        and not a.attisdropped
)
