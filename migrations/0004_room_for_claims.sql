-- Why: a claim of a whole page of events at once needs room for as many new versions on that page, or it is no HOT update
-- and writes every index anew. With 70 a claim of 100 cost half as much again. Rows that are there keep their pages.
alter table webhook_events set (fillfactor = 45);
