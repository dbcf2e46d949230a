"""Where data come from: Supabase, PostgreSQL, any JSON endpoint, a function."""
