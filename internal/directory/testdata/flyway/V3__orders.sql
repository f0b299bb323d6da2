CREATE TABLE orders (id serial PRIMARY KEY, account int REFERENCES accounts);
CREATE VIEW latest AS SELECT max(id) FROM orders;
