from .run import app

app()
