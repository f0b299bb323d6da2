CREATE TABLE phones (customer_id bigint REFERENCES customers, number text);
ALTER TABLE customers ADD COLUMN phone text;
