-- migrate:up
CREATE TABLE accounts (
    id    serial PRIMARY KEY,
    email text NOT NULL
);
INSERT INTO accounts (email) VALUES ('a@example.com');

-- migrate:down
DROP TABLE accounts;
