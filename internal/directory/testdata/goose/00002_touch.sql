-- Counts what happens to an account.

-- +goose Up
ALTER TABLE accounts ADD COLUMN touched int NOT NULL DEFAULT 0;

-- +goose StatementBegin
-- Counts.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.touched := NEW.touched + 1;
    RETURN NEW;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER touch BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION touch();
UPDATE accounts SET email = 'c@example.com' WHERE id = 1;

-- +goose Down
DROP TRIGGER touch ON accounts;
-- +goose StatementBegin
DROP FUNCTION touch;
-- +goose StatementEnd
