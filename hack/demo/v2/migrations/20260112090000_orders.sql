CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer bigint NOT NULL REFERENCES customers (id),
  placed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_customer ON orders (customer);
