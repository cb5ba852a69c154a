-- Who may call what: the owner, and nobody else until `waypost db migrate --grant ROLE`.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA waypost FROM PUBLIC;

-- Lets an application's role emit and publish. All that these need inside, they do as the schema's owner.
CREATE OR REPLACE FUNCTION waypost.grant_1(p_role text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_function regprocedure;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA waypost TO %I', p_role);
    FOR v_function IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'waypost'::regnamespace AND proname IN ('emit', 'publish', 'emit_1', 'publish_1')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', v_function, p_role);
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION waypost.grant_1(text) FROM PUBLIC;
