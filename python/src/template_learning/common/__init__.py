"""What every room needs: errors, files, tables, geometry, seeds, processors."""
