-- How much, in cents.
ALTER TABLE orders ADD COLUMN amount bigint;
