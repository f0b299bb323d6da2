CREATE TABLE orders (id bigint PRIMARY KEY, total numeric NOT NULL);
INSERT INTO orders VALUES (1, 9.90), (2, 19.90);
