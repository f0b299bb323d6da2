CREATE TABLE notes (order_id bigint REFERENCES orders, text text NOT NULL);
-- No release reads it any more.
-- atlas:nolint DS103
ALTER TABLE orders
  DROP COLUMN total;
