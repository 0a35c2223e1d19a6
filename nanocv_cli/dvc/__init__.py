"""DVC: what it tracks in a project, where its default remote is, its own command."""
