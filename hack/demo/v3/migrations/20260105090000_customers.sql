CREATE TABLE customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email text NOT NULL
);
INSERT INTO customers (email) VALUES ('ada@example.com'), ('grace@example.com'), ('ada@example.com');
