"""The pages' building blocks. Only this package and `pages/` import Streamlit; nothing outside imports it."""
