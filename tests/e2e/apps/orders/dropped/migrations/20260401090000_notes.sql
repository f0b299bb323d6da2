CREATE TABLE notes (order_id bigint REFERENCES orders, text text NOT NULL);
ALTER TABLE orders
  DROP COLUMN total;
