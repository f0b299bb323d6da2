CREATE TABLE items (order_id bigint NOT NULL REFERENCES orders, position int NOT NULL, PRIMARY KEY (order_id, position));
