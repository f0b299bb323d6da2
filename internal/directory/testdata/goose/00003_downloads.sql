-- +goose Up
CREATE TABLE downloads (
    id         serial PRIMARY KEY,
    "DownBytes" bigint NOT NULL -- compressed;
);
INSERT INTO downloads ("DownBytes") VALUES (1); -- the first one

-- +goose Down
DROP TABLE downloads;
