ALTER TABLE customers ADD COLUMN verified boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX customers_email ON customers (email);
