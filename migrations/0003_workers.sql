-- Why: a holder that was killed is known to be gone within a second, long before its leases run out.
--
-- A row says "this process holds the session advisory lock of this number". Unlogged on purpose: a crash of Postgres empties
-- the table and drops all locks at once, and then nobody may be taken for gone by presence; the lease decides.
create unlogged table workers (
    holder            bigint      not null primary key,
    server_started_at timestamptz not null,
    registered_at     timestamptz not null
);
