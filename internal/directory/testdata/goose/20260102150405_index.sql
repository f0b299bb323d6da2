-- +goose NO TRANSACTION
-- +goose Up
CREATE INDEX CONCURRENTLY accounts_touched ON accounts (touched);
-- +goose Down
DROP INDEX CONCURRENTLY accounts_touched;
