--liquibase formatted sql

--changeset ann:accounts
--comment: accounts, by their address
CREATE TABLE accounts (id serial PRIMARY KEY, email text NOT NULL);
--rollback DROP TABLE accounts;

--changeset ann:accounts-unique dbms:postgresql
CREATE UNIQUE INDEX accounts_email ON accounts (email);
--rollback DROP INDEX accounts_email;
