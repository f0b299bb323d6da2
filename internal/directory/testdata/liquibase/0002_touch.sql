--liquibase formatted sql

--changeset bob:touch splitStatements:false
CREATE FUNCTION touch() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RETURN 1;
END;
$$;
--rollback DROP FUNCTION touch;
