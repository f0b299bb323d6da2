-- +goose Up
CREATE TABLE accounts (
    id    serial PRIMARY KEY,
    email text NOT NULL UNIQUE
);

INSERT INTO accounts (email) VALUES ('a@example.com');
INSERT INTO accounts (email) VALUES ('b@example.com');

-- +goose Down
DROP TABLE accounts;
