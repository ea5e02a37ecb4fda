"""What strangers see of a converted network: its model card, and its repository on the Hugging Face hub."""

from mobilevit_sdk.publishing.card import model_card

__all__ = ["model_card"]
