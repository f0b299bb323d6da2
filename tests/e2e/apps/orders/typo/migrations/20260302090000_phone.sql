CREATE TABLE phones (customer_id bigint REFERENCES customers, number text);
ALTER TABLE customer ADD COLUMN phone text;
