"""Who may call how often, in Redis, in Supabase and in memory."""
