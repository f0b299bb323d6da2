ALTER TABLE customers ADD COLUMN verified boolean NOT NULL DEFAULT false;
DELETE FROM customers a USING customers b WHERE a.email = b.email AND a.id > b.id;
CREATE UNIQUE INDEX customers_email ON customers (email);
