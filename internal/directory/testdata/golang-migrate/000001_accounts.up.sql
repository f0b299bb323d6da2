BEGIN;

-- Accounts, by their address.
CREATE TABLE accounts (
    id    serial PRIMARY KEY,
    email text NOT NULL UNIQUE
);
INSERT INTO accounts (email) VALUES ('a;b@example.com'), ('Down@example.com');

COMMIT;
